"""HTTP handlers of the three APIs and of the operations port: parse, call the domain, render."""
