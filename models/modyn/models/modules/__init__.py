"""Network code of the built-in models; imports torch."""
