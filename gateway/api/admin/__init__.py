"""Operations port: health, metrics, callbacks, providers."""
