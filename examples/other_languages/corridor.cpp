// Q-learning in a corridor: walk right to the goal. Prints JSON lines; needs nothing but the standard library.
//
//     g++ -std=c++17 -O2 corridor.cpp -o corridor && stepstream run -- ./corridor
#include <algorithm>
#include <array>
#include <cstdlib>
#include <iostream>
#include <random>

constexpr int cells = 12;

int main(int argc, char** argv) {
    const int episodes = argc > 1 ? std::atoi(argv[1]) : 200;
    std::mt19937_64 engine(1);
    std::uniform_real_distribution<double> uniform(0.0, 1.0);
    std::array<std::array<double, 2>, cells> q{};
    std::cout.precision(17);  // doubles come back as they were
    std::cout << std::boolalpha;
    std::cout << R"({"type":"run_started","env_id":"Corridor","config":{"language":"c++","gamma":0.95}})" << std::endl;
    for (int episode = 0; episode < episodes; ++episode) {
        int cell = 0;
        double total = 0.0;
        const double epsilon = std::max(0.05, 1.0 - episode / (episodes * 0.5));
        for (int step = 0;; ++step) {
            int action = q[cell][1] > q[cell][0];
            if (uniform(engine) < epsilon || q[cell][0] == q[cell][1]) action = uniform(engine) < 0.5;
            const int next = std::max(0, cell + 2 * action - 1);
            const bool terminated = next == cells - 1;
            const bool truncated = !terminated && step == 99;
            const double reward = terminated ? 1.0 : -0.01;
            const double future = terminated ? 0.0 : std::max(q[next][0], q[next][1]);
            q[cell][action] += 0.5 * (reward + 0.95 * future - q[cell][action]);
            std::cout << R"({"type":"step","episode_index":)" << episode << R"(,"step_index":)" << step
                      << R"(,"observation":)" << cell << R"(,"action":)" << action << R"(,"reward":)" << reward
                      << R"(,"terminated":)" << terminated << R"(,"truncated":)" << truncated
                      << R"(,"epsilon":)" << epsilon << "}" << std::endl;  // endl flushes: a pipe is buffered
            cell = next;
            total += reward;
            if (terminated || truncated) {
                std::cout << R"({"type":"episode","episode_index":)" << episode << R"(,"episode_return":)" << total
                          << R"(,"episode_length":)" << step + 1 << R"(,"terminated":)" << terminated
                          << R"(,"truncated":)" << truncated << "}" << std::endl;
                break;
            }
        }
    }
    std::cout << R"({"type":"run_completed","status":"completed"})" << std::endl;
}
