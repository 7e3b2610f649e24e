"""Has the data moved? Profiles, statistics, detection and decay."""
