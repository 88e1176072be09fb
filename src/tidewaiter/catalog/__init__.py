"""What is known of every image, in one database: schema, migrations, recording, queries. SQL lives here only."""
