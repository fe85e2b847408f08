// htmx would write a style element into each page, which the Content-Security-Policy refuses. No page uses it.
htmx.config.includeIndicatorStyles = false;
