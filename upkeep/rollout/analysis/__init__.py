"""The online decision on a canary: sequential tests, fixed thresholds, and how they combine into one verdict."""
