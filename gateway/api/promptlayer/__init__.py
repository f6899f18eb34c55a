"""PromptLayer's API: its paths and formats, on top of the same runs as `POST /run`."""
