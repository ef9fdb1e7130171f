"""Jobs that resume by themselves: ``srun --auto-resume=1``.

Two sides that trust each other with nothing, and meet only in fields of the job that Slurm guards:

* the user's: `supervisor` runs srun as its child, with the rights of the user, started by the SPANK plugin
  (`slurm_plugins/spank_auto_resume.c`). When a step fails it asks (job field Extra, which the owner may
  write), and when the answer says so it drops the bad nodes, gets others and starts the step again.
* the cluster's: `cycle`, called by the recovery agent, finds the questions, diagnoses the job's nodes by
  what Slurm and its own probes say, decides (`decide`, pure) and answers (AdminComment, which only
  SlurmUser and root may write); it requeues what cannot resume in place.

`messages` is all that both share.
"""
