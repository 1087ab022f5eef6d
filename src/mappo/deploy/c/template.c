$about
#include "policy.h"

#include <math.h>
#include <stddef.h>

/* Weights */

$tables
/* Functions */

$functions
/* Policy */

void mappo_policy_step(mappo_policy *policy, const mappo_observation *observation, const uint8_t *mask, int is_first,
                       const float *noise, mappo_action *action)
{
    (void)mask; /* some policies have no choices */
    (void)is_first; /* or no memory */
$calls
}
