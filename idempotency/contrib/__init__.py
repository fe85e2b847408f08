"""What the app has for other libraries; each module needs its own."""
