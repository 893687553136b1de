"""Is what is served equal to what was trained?"""
