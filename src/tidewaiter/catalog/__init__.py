"""What the house remembers: schema, migrations, queries. SQL lives here and nowhere else."""
