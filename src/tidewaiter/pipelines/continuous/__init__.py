"""A build as a job of CI: what the CI says of it, what changed since the target branch, reports for the CI to show."""
