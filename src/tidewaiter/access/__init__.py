"""Who may what: people, tokens and CI jobs, their roles in projects, and what each role allows."""
