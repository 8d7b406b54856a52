"""What the command's exit code says."""

SUCCESS, FAILURE, NO_DEVICE, INCOMPLETE = range(4)

HELP = f"""\
exit codes:
  {SUCCESS}  nothing failed: all cases were checked, and as many cells measured as time allowed
  {FAILURE}  something failed, was stopped, or could not be stored
  {NO_DEVICE}  there is no CUDA device, or an option is wrong; nothing ran
  {INCOMPLETE}  nothing failed, but a question, a case, all cells, or a cell that --filter asks for
     was left out; the lines INCOMPLETE say which
"""
