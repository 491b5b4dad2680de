"""What would a city do? Events of a simulated city, which knows its truth, and of a year of real purchases."""
