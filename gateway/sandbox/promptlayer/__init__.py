"""Emulator of PromptLayer: routes, executions, callbacks and workflow catalog."""
