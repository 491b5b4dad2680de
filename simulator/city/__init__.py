"""A simulated intra-city grocery that answers what is ranked and knows the truth.

Its shape follows the setting of CameNN's paper (an intra-city retail platform whose items need text and image).
"""
