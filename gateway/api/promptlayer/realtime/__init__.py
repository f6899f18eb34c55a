"""WebSocket connections on which PromptLayer's SDKs wait for runs."""
