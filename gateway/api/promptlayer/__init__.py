"""The face of PromptLayer's API: its paths and shapes, in front of the same rooms as `POST /run`."""
