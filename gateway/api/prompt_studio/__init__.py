"""Prompt Studio's API: its paths and formats, for apps that change their base URL and key only."""
