-- Can a job of so many nodes in such segments ever start? Pure functions for cli_filter.lua and job_submit.lua.
--
-- Only what is certain is refused: a segment that no block can hold, nodes that are no multiple of it, more segments
-- than all blocks together have room for. Anything that cannot be read or judged passes. Lua 5.1 to 5.4.

local M = {}

-- Number of hosts in a host list: "n[1-3,7],login" is 5. nil when it cannot be read.
function M.count_hosts(list)
    local first, last = list:match("^[^%[%],]+%[(%d+)%-(%d+)%]$")
    if first and tonumber(last) >= tonumber(first) then
        return tonumber(last) - tonumber(first) + 1
    end
    local total, product, bracket = 0, 1, nil
    local seen = false
    for position = 1, #list do
        local char = list:sub(position, position)
        if char == "[" and not bracket then
            bracket = position
        elseif char == "]" and bracket then
            local inside = 0
            for range in list:sub(bracket + 1, position - 1):gmatch("[^,]+") do
                local low, high = range:match("^(%d+)%-(%d+)$")
                if not low then
                    low = range:match("^(%d+)$")
                    high = low
                end
                if not low or tonumber(high) < tonumber(low) then
                    return nil
                end
                inside = inside + tonumber(high) - tonumber(low) + 1
            end
            product, bracket = product * inside, nil
        elseif char == "," and not bracket then
            total, product, seen = total + (seen and product or 0), 1, false
        else
            seen = true
        end
    end
    if bracket then
        return nil
    end
    return total + (seen and product or 0)
end

-- A topology is `blocks`, the sizes of its blocks, and `base`, the planning block. nil when a list cannot be read.
local function topology_from(text, pattern, base)
    local blocks = {}
    for list in text:gmatch(pattern) do
        local size = M.count_hosts((list:gsub("['\"]", "")))
        if not size then
            return nil
        end
        blocks[#blocks + 1] = size
    end
    if #blocks == 0 then
        return nil
    end
    return { blocks = blocks, base = base or blocks[1] }
end

-- topology.conf of topology/block. Case does not matter to Slurm here, nor to counting hosts.
function M.parse_conf(text)
    text = "\n" .. text:lower():gsub("\\\r?\n", " ")
    if text:find("#", 1, true) then
        text = text:gsub("#[^\n]*", "")
    end
    if text:find("switchname%s*=") or text:find("\n%s*include%s") then
        return nil
    end
    return topology_from(text, "[%s]nodes%s*=%s*(%S+)", tonumber(text:match("blocksizes%s*=%s*(%d+)")))
end

-- topology.yaml, when it has one topology and that is of blocks; of several only the partition tells which counts.
function M.parse_yaml(text)
    text = "\n" .. text
    if text:find("#", 1, true) then
        text = text:gsub("#[^\n]*", "")
    end
    local _, entries = text:gsub("\n[%s%-]*topology:", "")
    for _, kind in ipairs({ "tree", "flat", "ring", "torus3d" }) do
        if text:find("\n[%s%-]*" .. kind .. ":") then
            return nil
        end
    end
    if entries ~= 1 then
        return nil
    end
    local base = text:match("block_sizes:%s*%[%s*(%d+)") or text:match("block_sizes:%s*\n%s*%-%s*(%d+)")
    return topology_from(text, "\n[%s%-]*nodes:%s*(%S+)", tonumber(base))
end

local function total(topology)
    local count = 0
    for _, size in ipairs(topology.blocks) do
        count = count + size
    end
    return count
end

local function room(topology, segment)
    local count = 0
    for _, size in ipairs(topology.blocks) do
        count = count + math.floor(size / segment)
    end
    return count
end

-- Why the request can never start, or nil. `rules.spans`: segments may be larger than a block (25.11 and later).
function M.problem(request, topology, rules)
    local nodes, segment = request.nodes, request.segment
    if segment > nodes then
        if rules.spans then
            return nil
        end
        return string.format("the segment of %d is larger than the job of %d nodes", segment, nodes)
    end
    if segment > topology.base and not rules.spans then
        return string.format(
            "a segment of %d is larger than the planning block of %d nodes", segment, topology.base)
    end
    if nodes % segment ~= 0 then
        return string.format("%d nodes are no multiple of the segment of %d", nodes, segment)
    end
    if request.nodelist and nodes > segment and not rules.spans then
        return "a node list together with more than one segment is not supported by this Slurm"
    end
    -- A job larger than the cluster is not refused here: its segments are not what is wrong with it.
    local segments = nodes / segment
    if segment <= topology.base and nodes <= total(topology) and room(topology, segment) < segments then
        return string.format(
            "%d segments of %d nodes are asked for and all blocks together have room for %d",
            segments, segment, room(topology, segment))
    end
    return nil
end

-- Options that would work, at most two: the same nodes in the largest segment that fits, and the nearest other size.
function M.alternatives(request, topology, rules)
    local found = {}
    local function works(nodes, segment)
        local other = { nodes = nodes, segment = segment, nodelist = request.nodelist }
        return nodes > 0 and nodes <= total(topology) and M.problem(other, topology, rules) == nil
    end
    for segment = math.min(request.nodes, topology.base), 1, -1 do
        if request.nodes % segment == 0 and segment ~= request.segment and works(request.nodes, segment) then
            found[#found + 1] = string.format("-N%d --segment=%d", request.nodes, segment)
            break
        end
    end
    local below = request.nodes - request.nodes % request.segment
    for _, nodes in ipairs({ below, below + request.segment, room(topology, request.segment) * request.segment }) do
        if nodes ~= request.nodes and works(nodes, request.segment) then
            found[#found + 1] = string.format("-N%d --segment=%d", nodes, request.segment)
            break
        end
    end
    return found
end

local function read(path)
    local file = io.open(path, "r")
    if not file then
        return nil
    end
    local text = file:read("*a")
    file:close()
    return text
end

-- The block topology that the configuration in `folder` gives the whole cluster; nil when there is none.
function M.topology_of(folder)
    local text = read(folder .. "/topology.yaml")
    if text then
        return M.parse_yaml(text)
    end
    local conf = read(folder .. "/slurm.conf")
    if not conf or not ("\n" .. conf):find("\n%s*[Tt]opology[Pp]lugin%s*=%s*topology/block%s") then
        return nil
    end
    text = read(folder .. "/topology.conf")
    return text and M.parse_conf(text)
end

-- What to tell the user of a request that can never start; nil for every other.
function M.refusal(request, folder, rules)
    if not request.nodes or not request.segment or request.segment < 1 then
        return nil
    end
    local topology = M.topology_of(folder)
    local why = topology and M.problem(request, topology, rules)
    if not why then
        return nil
    end
    local others = M.alternatives(request, topology, rules)
    local advice = #others > 0 and "; this would work: " .. table.concat(others, " or ") or ""
    return string.format("this job could never start: %s%s", why, advice)
end

return M
