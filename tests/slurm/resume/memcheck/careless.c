/* A SPANK plugin that reads what it never wrote and loses what it got: valgrind must see that it is this one. */
#include <stdlib.h>

#include <slurm/spank.h>

SPANK_PLUGIN(careless, 1);

static char *volatile lost;

int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
	(void) spank, (void) argc, (void) argv;
	lost = malloc(1000);
	if (lost[10] == 'x')
		setenv("CARELESS", "1", 1);
	lost = NULL;
	return 0;
}
