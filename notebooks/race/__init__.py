"""What chapter 14's race to 99 % is run with."""
