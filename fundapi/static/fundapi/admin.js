// The policy of the pages allows no style that a script writes into them; htmx would, and nobody uses it.
htmx.config.includeIndicatorStyles = false;
