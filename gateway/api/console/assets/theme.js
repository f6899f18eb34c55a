// Applies the chosen colour scheme before the first paint. "system" follows prefers-color-scheme.
"use strict";
(() => {
  let chosen = "system";
  try {
    chosen = localStorage.getItem("runward.theme") || "system";
  } catch {
    // storage is not available: the system's scheme applies
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
