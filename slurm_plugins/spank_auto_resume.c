/*
 * spank_auto_resume.c - the options --auto-resume… of srun, sbatch and salloc.
 *
 * The whole plugin: an srun that was given --auto-resume replaces itself (execv) by a supervisor, which runs
 * the very same srun as its child, as often as it takes. Everything else is decided there, in Python
 * (hpadmin.recovery.resume), with the rights of the user. An srun without the option is not touched.
 *
 *   sbatch, salloc   the option travels to every srun of the job in Slurm's own way; the job gets --no-kill,
 *                    so that it outlives the loss of a node, and K nodes more with --auto-resume-spares=K.
 *                    What could never be resumed is refused here, with the reason
 *   srun             the supervisor takes over, unless it is itself our parent; then the step's id is told
 *                    to it through a pipe
 *   slurmstepd       only knows the options' names, because srun hands them on
 *
 * plugstack.conf:  optional spank_auto_resume.so [python=/path/to/python3]
 *
 * Whatever goes wrong in srun leaves a plain srun: the plugin warns and steps aside. See spank(7).
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <slurm/spank.h>

SPANK_PLUGIN(auto_resume, 1);

#ifndef PYTHON
#define PYTHON "/opt/hpadmin/bin/python3"
#endif

/*
 * Set by the supervisor for its child: the supervisor's process id, and the pipe that wants the step's id. An srun
 * that finds its own process id there was started again in place, because no supervisor could be.
 */
#define PARENT_VARIABLE "HPADMIN_AUTO_RESUME_PARENT"
#define PIPE_VARIABLE "HPADMIN_AUTO_RESUME_PIPE"

/*
 * The supervisor, or, on a node whose Python has no such module or cannot load it, srun as it was: with its own
 * environment (Python may have added LC_CTYPE to it) and without the signals that Python ignores.
 */
#define SUPERVISOR \
	"import os, signal, sys\n" \
	"try:\n" \
	"    from hpadmin.recovery.resume.supervise import main\n" \
	"except Exception as error:\n" \
	"    os.write(2, f'srun: error: auto_resume: {sys.executable}: {error}\\n'.encode())\n" \
	"    os.write(2, b'srun: error: auto_resume: the step runs without auto-resume\\n')\n" \
	"    entries = open('/proc/self/environ', 'rb').read().split(b'\\0')\n" \
	"    variables = dict(entry.split(b'=', 1) for entry in entries if b'=' in entry)\n" \
	"    variables[b'" PARENT_VARIABLE "'] = b'%d' % os.getpid()\n" \
	"    for name in ('SIGPIPE', 'SIGXFSZ'):\n" \
	"        signal.signal(getattr(signal, name), signal.SIG_DFL)\n" \
	"    os.execve(sys.argv[4], sys.argv[6:], variables)\n" \
	"sys.exit(main(sys.argv[1:]))\n"

#define MAX_ARGUMENTS (1024 * 1024) /* bytes of command line: more than the kernel takes for srun itself */

#define MIN_HEARTBEAT 5 /* seconds; hpadmin.recovery.resume.heartbeat */

/* Slurm's commands export their options, their configuration and these; other programs that load SPANK do not. */
struct slurm_options;
extern struct slurm_options opt __attribute__((weak));
extern int slurm_option_set(struct slurm_options *, const char *, const char *, bool) __attribute__((weak));
extern char *slurm_option_get(struct slurm_options *, const char *) __attribute__((weak));
extern bool slurm_option_isset(struct slurm_options *, const char *) __attribute__((weak));
extern slurm_conf_t slurm_conf __attribute__((weak));
extern void slurm_xfree(void **) __attribute__((weak));

static const char *python = PYTHON;
static bool supervised; /* our parent is the supervisor */
static int tell = -1; /* the supervisor's pipe */
static long retries = -1; /* -1: the option was not given; 0: off; 1: on, N: on, at most N times */
static long spares;
static const char *heartbeat = "";

static int take_number(const char *text, long low, long high, long *into)
{
	char *end = NULL;

	errno = 0;
	long value = text ? strtol(text, &end, 10) : -1;
	if (errno || !end || end == text || *end || value < low || value > high)
		return ESPANK_BAD_ARG;
	*into = value;
	return ESPANK_SUCCESS;
}

static int take_auto_resume(int val, const char *text, int remote)
{
	(void) val;
	return remote ? ESPANK_SUCCESS : take_number(text, 0, 1000, &retries);
}

static int take_spares(int val, const char *text, int remote)
{
	(void) val;
	return remote ? ESPANK_SUCCESS : take_number(text, 0, 10000, &spares);
}

static int take_heartbeat(int val, const char *text, int remote)
{
	(void) val;
	if (!remote && text)
		heartbeat = text;
	return ESPANK_SUCCESS;
}

static struct spank_option options[] = {
	{ "auto-resume", "0|1|N", "restart the job's steps when their nodes fail; N: at most N times", 1, 1,
	  take_auto_resume },
	{ "auto-resume-spares", "K", "hold K nodes more than the steps use, to restart on", 1, 2, take_spares },
	{ "auto-resume-heartbeat", "FILE:SECONDS|log:SECONDS",
	  "count a step as failed when FILE is not touched, or nothing is printed, for SECONDS", 1, 3,
	  take_heartbeat },
	SPANK_OPTIONS_TABLE_END
};

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "python=", 7))
			python = argv[i] + 7;
		else
			slurm_error("auto_resume: plugstack.conf: unknown argument %s", argv[i]);
	}
	for (struct spank_option *option = options; option->name; option++) {
		if (spank_option_register(spank, option) != ESPANK_SUCCESS)
			slurm_error("auto_resume: cannot register --%s", option->name);
	}
	return ESPANK_SUCCESS;
}

/* End sbatch or salloc before anything is submitted. An "optional" plugin cannot do so by a return value. */
static void __attribute__((noreturn)) refuse(const char *why)
{
	slurm_error("auto_resume: %s", why);
	exit(1);
}

/* The option's argument as Slurm holds it, copied; "" when it has none. */
static void read_option(const char *name, char *into, size_t size)
{
	char *value = slurm_option_get(&opt, name);

	snprintf(into, size, "%s", value ? value : "");
	if (value && slurm_xfree)
		slurm_xfree((void **) &value);
}

/* Is `word` one of a comma-separated list, alone or before an equals sign? */
static bool has_word(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
		if (!strncasecmp(at, word, length) && (!at[length] || strchr(",=", at[length])))
			return true;
	return false;
}

static bool asks_for_gres(void)
{
	static const char *const names[] = { "gres", "gpus", "gpus-per-node", "gpus-per-socket",
					     "gpus-per-task", "tres-per-task" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (slurm_option_isset(&opt, names[i]))
			return true;
	return false;
}

/*
 * Refuse a job whose steps could never be resumed after the loss of a node, neither in place nor by a requeue,
 * because this cluster's configuration does not allow it; warn where only its own options are in the way.
 * The rules are those of hpadmin.recovery.resume.decide. What only slurmctld knows, such as that whole nodes
 * bring their GRES along, is not judged here.
 */
static void check_configuration(void)
{
	char requeue[32];
	const char *parameters = slurm_conf.sched_params, *not_in_place = NULL, *not_requeued = NULL;
	bool configured = true;

	if (has_word(parameters, "extra_constraints"))
		refuse("SchedulerParameters=extra_constraints takes the field Extra, in which the job would ask for help");

	if (has_word(parameters, "disable_job_shrink")) {
		not_in_place = "SchedulerParameters has disable_job_shrink";
	} else if (!spares && !has_word(parameters, "permit_job_expansion")) {
		not_in_place = "SchedulerParameters lacks permit_job_expansion";
	} else if (!spares && (slurm_conf.prolog_flags & (PROLOG_FLAG_ALLOC | PROLOG_FLAG_CONTAIN))) {
		not_in_place = "PrologFlags has Alloc or Contain";
	} else if (!spares && slurm_conf.task_plugin &&
		   (strstr(slurm_conf.task_plugin, "affinity") || strstr(slurm_conf.task_plugin, "cgroup"))) {
		/* A job holds no cores of a node that joined it: steps that are bound to theirs fail there. */
		not_in_place = "TaskPlugin binds tasks to cores";
	} else if (!spares && asks_for_gres()) {
		not_in_place = "Slurm adds no nodes to a job with GRES (--auto-resume-spares=K holds some)";
		configured = false;
	}

	read_option("requeue", requeue, sizeof(requeue));
	if (!strcmp(requeue, "invalid-context"))
		not_requeued = "only batch jobs are requeued";
	else if (!strcmp(requeue, "no-requeue"))
		not_requeued = "--no-requeue forbids to requeue it";
	else if (strcmp(requeue, "requeue") && !slurm_conf.job_requeue)
		not_requeued = "JobRequeue=0 forbids to requeue it (--requeue allows it)";

	if (not_in_place && not_requeued)
		slurm_error("auto_resume: this job cannot be resumed when a node fails: %s, and %s", not_in_place,
			    not_requeued);
	if (not_in_place && not_requeued && configured)
		refuse("it is not submitted; without --auto-resume it would be");
}

/* FILE:SECONDS or log:SECONDS; a relative FILE is that of the step's folder. */
static void check_heartbeat(void)
{
	const char *colon = strrchr(heartbeat, ':');
	long seconds;

	if (*heartbeat && (!colon || colon == heartbeat ||
			   take_number(colon + 1, MIN_HEARTBEAT, INT_MAX, &seconds) != ESPANK_SUCCESS))
		refuse("--auto-resume-heartbeat is FILE:SECONDS or log:SECONDS, of 5 seconds or more");
}

/* sbatch and salloc: the job shall outlive a lost node, and hold the spares. */
static void prepare_allocation(void)
{
	char given[32], wanted[32];
	long nodes = 0;

	if (!&opt || !&slurm_conf || !slurm_option_set || !slurm_option_get || !slurm_option_isset) {
		slurm_error("auto_resume: this command does not export its options: give --no-kill yourself");
		return;
	}
	check_configuration();
	if (slurm_option_set(&opt, "no-kill", "set", false))
		slurm_error("auto_resume: cannot set --no-kill: give it yourself");
	if (!spares)
		return;

	read_option("nodes", given, sizeof(given));
	if (take_number(given, 1, 1000000, &nodes) != ESPANK_SUCCESS)
		refuse("--auto-resume-spares needs --nodes=N with one number");
	snprintf(wanted, sizeof(wanted), "%ld", nodes + spares);
	if (slurm_option_set(&opt, "nodes", wanted, false))
		refuse("cannot add the spares to --nodes");
}

/* Read this process's command line into `buffer` and point `into` at each word; returns their count, or -1. */
static int command_line(char *buffer, size_t size, char **into, int most)
{
	FILE *file = fopen("/proc/self/cmdline", "r");
	if (!file)
		return -1;
	size_t length = fread(buffer, 1, size, file);
	fclose(file);
	if (!length || length == size || buffer[length - 1] != '\0')
		return -1;

	int count = 0;
	for (char *word = buffer; word < buffer + length; word += strlen(word) + 1) {
		if (count == most)
			return -1;
		into[count++] = word;
	}
	return count;
}

/* Become the supervisor. Returns only when that is not possible. */
static void become_supervisor(void)
{
	enum { OWN = 10, MOST = MAX_ARGUMENTS / 8 };
	char program[PATH_MAX], retries_text[32], spares_text[32];
	char *buffer = malloc(MAX_ARGUMENTS);
	char **argv = calloc(OWN + MOST + 1, sizeof(*argv));
	ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
	int count = buffer && argv ? command_line(buffer, MAX_ARGUMENTS, argv + OWN, MOST) : -1;

	if (length > 0 && count > 0) {
		program[length] = '\0';
		snprintf(retries_text, sizeof(retries_text), "%ld", retries);
		snprintf(spares_text, sizeof(spares_text), "%ld", spares);
		/* -I: nothing of the user's Python environment takes part. */
		char *own[OWN] = { (char *) python, "-I", "-c", SUPERVISOR, retries_text, spares_text,
				   (char *) heartbeat, program, "--", NULL };
		memcpy(argv, own, (OWN - 1) * sizeof(*own));
		memmove(argv + OWN - 1, argv + OWN, (count + 1) * sizeof(*argv));

		/* srun has blocked its signals by now; the supervisor starts with a clean mask. */
		sigset_t none, before;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, &before);
		execv(python, argv);
		slurm_error("auto_resume: cannot run %s: %s", python, strerror(errno));
		sigprocmask(SIG_SETMASK, &before, NULL);
	} else {
		slurm_error("auto_resume: cannot read this command's own arguments");
	}
	slurm_error("auto_resume: the step runs without auto-resume");
	free(buffer);
	free(argv);
}

int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
	(void) spank, (void) argc, (void) argv;
	const char *parent = getenv(PARENT_VARIABLE), *pipe = getenv(PIPE_VARIABLE);

	if (spank_context() == S_CTX_ALLOCATOR) {
		check_heartbeat();
		if ((spares || *heartbeat) && retries == -1)
			refuse("--auto-resume-spares and --auto-resume-heartbeat need --auto-resume=1");
	}
	if (retries <= 0)
		return ESPANK_SUCCESS;
	if (spank_context() == S_CTX_ALLOCATOR) {
		prepare_allocation();
	} else if (spank_context() == S_CTX_LOCAL && !supervised) {
		long by = parent ? strtol(parent, NULL, 10) : 0;

		supervised = by > 0 && (by == (long) getppid() || by == (long) getpid());
		if (!supervised)
			become_supervisor();
		tell = supervised && pipe ? (int) strtol(pipe, NULL, 10) : -1;
		/* Tasks, and sruns that they start, have nothing to do with this one's supervisor. */
		unsetenv(PARENT_VARIABLE);
		unsetenv(PIPE_VARIABLE);
	}
	return ESPANK_SUCCESS;
}

/* srun, the step exists: tell the supervisor which one it is, and of how many nodes. */
int slurm_spank_local_user_init(spank_t spank, int argc, char **argv)
{
	(void) argc, (void) argv;
	uint32_t job = 0, step = 0, nodes = 0;

	if (tell >= 0 && spank_get_item(spank, S_JOB_ID, &job) == ESPANK_SUCCESS &&
	    spank_get_item(spank, S_JOB_STEPID, &step) == ESPANK_SUCCESS &&
	    spank_get_item(spank, S_JOB_NNODES, &nodes) == ESPANK_SUCCESS)
		dprintf(tell, "%u %u %u\n", job, step, nodes);
	return ESPANK_SUCCESS;
}
