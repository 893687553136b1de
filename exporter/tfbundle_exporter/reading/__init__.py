"""What is there already: inspect, diff, verify, doctor, restore."""
