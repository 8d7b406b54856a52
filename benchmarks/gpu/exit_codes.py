"""What the command's exit code says."""

SUCCESS, FAILURE, NO_DEVICE, INCOMPLETE = range(4)

HELP = f"""\
exit codes:
  {SUCCESS}  all that was asked for ran, and nothing failed
  {FAILURE}  something failed, was stopped, or could not be stored
  {NO_DEVICE}  there is no CUDA device, or an option is wrong; nothing ran
  {INCOMPLETE}  nothing failed, but the time was over before all cases were checked
"""
