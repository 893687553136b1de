"""What people have: files and folders, looked at, checked and loaded."""
