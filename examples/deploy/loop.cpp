/* An exported agent in C++ with libtorch, without Python: `./agent FOLDER/AGENT/policy_aoti.pt2`.
 *
 * The file is of `mappo export --to aoti`. Each line of the standard input is a step: is_first (0 or 1), the numbers of
 * the observation, and for agents with choices the mask. The answer is a line with the action. Compile with CMake:
 *
 *     find_package(Torch REQUIRED)
 *     add_executable(agent loop.cpp)
 *     target_link_libraries(agent "${TORCH_LIBRARIES}")
 */

#include <ATen/ATen.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <iomanip>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

/* A tensor of the package's metadata, in a line of its name, its dtype and its sizes. */
struct Signature {
    std::string name;
    at::ScalarType dtype;
    std::vector<int64_t> shape;
};

static std::vector<Signature> read_signatures(const std::string &text)
{
    static const std::map<std::string, at::ScalarType> dtypes = {
        {"bool", at::kBool}, {"float32", at::kFloat}, {"int64", at::kLong}, {"uint8", at::kByte}};
    std::vector<Signature> found;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string name, dtype;
        words >> name >> dtype;
        std::vector<int64_t> shape = {1};
        for (int64_t size; words >> size;) shape.push_back(size);
        found.push_back({name, dtypes.at(dtype), shape});
    }
    return found;
}

/* Read a step from a line; throw where it breaks off. Noise is zero: the action is the likeliest. */
static std::vector<at::Tensor> read_step(const std::vector<Signature> &inputs, const std::string &line,
                                         const at::Tensor &memory)
{
    std::istringstream numbers(line);
    float is_first = 0;
    numbers >> is_first;
    std::vector<at::Tensor> step;
    for (const auto &input : inputs) {
        at::Tensor x = at::zeros(input.shape, at::kFloat);
        if (input.name == "memory" && memory.defined()) {
            x = memory;
        } else if (input.name == "is_first") {
            x.fill_(is_first);
        } else if (input.name == "mask" || input.name.rfind("obs", 0) == 0) {
            for (int64_t i = 0; i < x.numel(); ++i) numbers >> x.data_ptr<float>()[i];
        }
        step.push_back(x.to(input.dtype));
    }
    if (!numbers) throw std::runtime_error("a step breaks off");
    return step;
}

static void print_action(const at::Tensor &action)
{
    const at::Tensor flat = action.reshape({-1}).to(at::kDouble);
    for (int64_t i = 0; i < flat.numel(); ++i) std::cout << (i ? " " : "") << flat.data_ptr<double>()[i];
    std::cout << std::endl;
}

int main(int count, char **arguments)
{
    if (count != 2) {
        std::cerr << "usage: agent FOLDER/AGENT/policy_aoti.pt2\n";
        return 2;
    }
    std::cout << std::setprecision(9);
    try {
        torch::inductor::AOTIModelPackageLoader policy(arguments[1]);
        auto metadata = policy.get_metadata();
        const auto inputs = read_signatures(metadata.at("inputs"));
        const auto outputs = read_signatures(metadata.at("outputs"));
        at::Tensor memory;
        for (std::string line; std::getline(std::cin, line);) {
            const auto answers = policy.run(read_step(inputs, line, memory));
            for (size_t k = 0; k < outputs.size(); ++k) {
                if (outputs[k].name == "memory_out") memory = answers[k];
                if (outputs[k].name == "action") print_action(answers[k]);
            }
        }
    } catch (const c10::Error &error) {
        std::cerr << arguments[1] << ": " << error.what_without_backtrace() << "\n";
        return 2;
    } catch (const std::exception &error) {
        std::cerr << arguments[1] << ": " << error.what() << "\n";
        return 2;
    }
    return 0;
}
