"""Chapter 14's race to 99 %: Keras layers without the copies, the recipes, and the clock."""
