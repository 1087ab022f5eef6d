$about
#ifndef MAPPO_POLICY_H
#define MAPPO_POLICY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MAPPO_CHOICE_SIZE $choice_size /* choices in an action */
#define MAPPO_NUMBER_SIZE $number_size /* numbers in an action */
#define MAPPO_NOISE_SIZE $noise_size /* numbers of noise: one for each choice, then one for each number */
#define MAPPO_MASK_SIZE $mask_size /* bytes of a mask: the options of all choices */
#define MAPPO_MEMORY_SIZE $memory_size /* numbers in the memory; 0 without */
#define MAPPO_OUTPUT_SIZE $output_size /* logits of all options, then a mean, then a log standard deviation, of each number */

/* An observation, in the units of the environment. */
typedef struct {
$observation
} mappo_observation;

/* An action of the agent's own action space. */
typedef struct {
$action
} mappo_action;

/* A policy in use, one for each robot. It may start with any content. */
typedef struct {
$policy
} mappo_policy;

/* Act for a step. Nothing but the three structs is read or written: several threads may act, each with its own policy.
 *
 * policy       keeps the memory from step to step; `outputs` holds the parameters of the distribution of actions.
 * observation  of this step.
 * mask         MAPPO_MASK_SIZE bytes, not 0 where an option is legal; NULL if all are. A choice without a legal option
 *              takes any option.
 * is_first     not 0 at the first step of an episode or of a life: the memory starts at zero.
 * noise        MAPPO_NOISE_SIZE numbers, uniform in [0, 1), by which actions are sampled; NULL for the likeliest action.
 * action       is written.
 */
void mappo_policy_step(mappo_policy *policy, const mappo_observation *observation, const uint8_t *mask, int is_first,
                       const float *noise, mappo_action *action);

#ifdef __cplusplus
}
#endif

#endif
