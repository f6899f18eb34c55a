"""Operations port: its OpenAPI document."""
