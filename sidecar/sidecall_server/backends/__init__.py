"""Where tools live. Each backend turns tools into handlers and exceptions into outcomes."""
