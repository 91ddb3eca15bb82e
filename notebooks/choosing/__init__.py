"""What chapter 28 counts: code in other chapters, what they printed, and what a message says.

`pages` reads notebooks as data, without running them; `count` measures code; `faults` puts the same
mistakes to both frameworks; `verdict` makes the table of decisions; `toys` has a task for the
programs. Import the modules by name: only `faults` needs the frameworks.
"""
