"""Every setting, its flag and its help text."""
