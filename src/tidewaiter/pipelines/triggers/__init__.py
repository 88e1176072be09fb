"""What makes runs by itself: webhooks of code hosts, and schedules."""
