/* Plays a policy on steps from standard input: each is read as a `step`, and answered by a `result`.
 * The arguments are the sizes of both: a caller of other sizes would wait for ever. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy.h"

typedef struct {
    mappo_observation observation;
    float noise[MAPPO_NOISE_SIZE];
    int32_t is_first;
#if MAPPO_MEMORY_SIZE
    int32_t has_memory; /* the memory of the step counts, in place of the memory of the step before */
    float memory[MAPPO_MEMORY_SIZE];
#endif
#if MAPPO_MASK_SIZE
    uint8_t mask[MAPPO_MASK_SIZE];
#endif
} step;

typedef struct {
    mappo_action action;
    mappo_action sampled_action; /* by the noise of the step */
    float outputs[MAPPO_OUTPUT_SIZE];
#if MAPPO_MEMORY_SIZE
    float memory[MAPPO_MEMORY_SIZE];
#endif
} result;

int main(int count, char **sizes)
{
    static mappo_policy policy;
    static mappo_policy sampling_policy;
    static step input;
    static result output;

    if (count != 3 || strtoul(sizes[1], NULL, 10) != sizeof input || strtoul(sizes[2], NULL, 10) != sizeof output) {
        return 2;
    }
    while (fread(&input, sizeof input, 1, stdin) == 1) {
        const uint8_t *mask = NULL;
#if MAPPO_MASK_SIZE
        mask = input.mask;
#endif
#if MAPPO_MEMORY_SIZE
        if (input.has_memory) {
            memcpy(policy.memory, input.memory, sizeof policy.memory);
        }
#endif
        sampling_policy = policy;
        mappo_policy_step(&sampling_policy, &input.observation, mask, input.is_first, input.noise,
                          &output.sampled_action);
        mappo_policy_step(&policy, &input.observation, mask, input.is_first, NULL, &output.action);
        memcpy(output.outputs, policy.outputs, sizeof output.outputs);
#if MAPPO_MEMORY_SIZE
        memcpy(output.memory, policy.memory, sizeof output.memory);
#endif
        if (fwrite(&output, sizeof output, 1, stdout) != 1 || fflush(stdout) != 0) {
            return 1;
        }
    }
    return ferror(stdin) != 0;
}
