"""The face of Prompt Studio's own API: an app that speaks it changes its base URL and its key."""
