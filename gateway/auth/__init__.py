"""Authentication: gateway keys, clients and their scopes, client certificates, failed attempts."""
