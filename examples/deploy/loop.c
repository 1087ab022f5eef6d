/* An exported agent in a program of its own. Compile it beside the files of `mappo export --to c`:
 *
 *     cc -std=c99 -O2 -I FOLDER loop.c FOLDER/policy.c -lm -o agent
 *
 * Each step is read from standard input as numbers: 1 at the first step of an episode or of a life, else 0; then the
 * observation; then the mask, for an agent with choices: 1 where an option is legal, else 0. The answer is a line with
 * the numbers of the action. The observation must be a single array; for a dict, fill the fields named in policy.h.
 */

#include <stddef.h>
#include <stdio.h>

#include "policy.h"

/* Read a number; return 0 at the end of the input. */
static int read_number(float *number)
{
    return scanf("%f", number) == 1;
}

/* Print an action on a line. */
static void print_action(const mappo_action *action)
{
#if MAPPO_CHOICE_SIZE
    for (int i = 0; i < MAPPO_CHOICE_SIZE; ++i) {
        printf("%ld ", (long)action->choice[i]);
    }
#endif
#if MAPPO_NUMBER_SIZE
    for (int i = 0; i < MAPPO_NUMBER_SIZE; ++i) {
        printf("%.9g ", (double)action->number[i]);
    }
#endif
    printf("\n");
    fflush(stdout);
}

int main(void)
{
    static mappo_policy policy; /* keeps the memory from step to step */
    mappo_observation observation;
    mappo_action action;
    const int size = (int)(sizeof observation.obs / sizeof observation.obs[0]);
    uint8_t mask[MAPPO_MASK_SIZE + 1];
    float number;

    while (read_number(&number)) {
        const int is_first = number != 0.0f;

        for (int i = 0; i < size; ++i) {
            if (!read_number(&number)) {
                return 1;
            }
            observation.obs[i] = number;
        }
        for (int i = 0; i < MAPPO_MASK_SIZE; ++i) {
            if (!read_number(&number)) {
                return 1;
            }
            mask[i] = number != 0.0f;
        }
        mappo_policy_step(&policy, &observation, mask, is_first, NULL, &action);
        print_action(&action);
    }
    return 0;
}
