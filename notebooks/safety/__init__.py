"""What chapter 18 needs beside its cells: files with a surprise, a process for them, letters.

`parcels` writes the files, `opening` opens them in a process of their own and tells what happened,
`child` is that process. The surprise is harmless: it writes a sentence into `note.txt` in the
folder in which it is run. Nothing here imports Keras or PyTorch before it is needed.
"""

from safety.letters import letters
from safety.opening import SafetyError, open_anew, show

__all__ = ["SafetyError", "letters", "open_anew", "show"]
