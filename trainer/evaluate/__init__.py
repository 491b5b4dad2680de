"""How good a bundle is on a day it has not seen, and whether it may replace the incumbent."""
