# Q-learning in a corridor: walk right to the goal. Prints JSON lines; needs only Julia itself.
#
#     stepstream run -- julia corridor.jl
using Random

const CELLS = 12

"A value as JSON; for richer values take JSON3 or JSON."
json(value::AbstractString) = "\"" * escape_string(value) * "\""
json(value::Union{Bool,Integer,AbstractFloat}) = string(value)
json(pairs::NamedTuple) = "{" * join(("\"$name\":$(json(value))" for (name, value) in zip(keys(pairs), pairs)), ",") * "}"

"One event, one line, written at once."
function emit(type; fields...)
    println(json((; type, fields...)))
    flush(stdout)
end

function train(episodes)
    random = MersenneTwister(1)
    q = zeros(CELLS, 2)
    emit("run_started"; env_id = "Corridor", config = (; language = "julia", gamma = 0.95))
    for episode in 0:episodes-1
        cell, total, step = 0, 0.0, 0
        epsilon = max(0.05, 1 - episode / (episodes * 0.5))
        while true
            left, right = q[cell+1, :]
            action = rand(random) < epsilon || left == right ? rand(random, 0:1) : Int(right > left)
            next = max(0, cell + 2action - 1)
            terminated = next == CELLS - 1
            truncated = !terminated && step == 99
            reward = terminated ? 1.0 : -0.01
            future = terminated ? 0.0 : maximum(q[next+1, :])
            q[cell+1, action+1] += 0.5 * (reward + 0.95future - q[cell+1, action+1])
            emit("step"; episode_index = episode, step_index = step, observation = cell, action, reward,
                 terminated, truncated, epsilon)
            cell, total, step = next, total + reward, step + 1
            if terminated || truncated
                emit("episode"; episode_index = episode, episode_return = total, episode_length = step,
                     terminated, truncated)
                break
            end
        end
    end
    emit("run_completed"; status = "completed")
end

train(isempty(ARGS) ? 200 : parse(Int, ARGS[1]))
