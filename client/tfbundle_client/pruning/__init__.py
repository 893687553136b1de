"""Old versions that nobody needs go to the trash of their base path."""
