"""Operations port: health, metrics, callbacks."""
