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

-- Placeholders of block `name` among `list`: FUTURE nodes that pad a short block and never run anything.
local function count_pads(list, name)
    local prefix = "pad-" .. name .. "-"
    if not list:find(prefix, 1, true) then
        return 0
    end
    local count = 0
    -- Commas inside of brackets do not separate names.
    for item in list:gsub("%b[]", function(range) return (range:gsub(",", ";")) end):gmatch("[^,]+") do
        if item:sub(1, #prefix) == prefix then
            count = count + (M.count_hosts((item:gsub(";", ","))) or 0)
        end
    end
    return count
end

-- A topology is `blocks`, the nodes that may run jobs in each, and `base`, the planning block. nil when in doubt.
-- `entries` are pairs of a block's name and its host list, false where it has none.
local function topology_from(entries, base)
    local blocks, first = {}, nil
    for _, entry in ipairs(entries) do
        local size, pads = 0, 0
        if entry.nodes then
            if entry.nodes:find("[^%w%[%],._-]") then
                return nil
            end
            size = M.count_hosts(entry.nodes)
            if not size then
                return nil
            end
            pads = count_pads(entry.nodes, entry.name)
        end
        first = first or size
        blocks[#blocks + 1] = size - pads
    end
    base = base or first
    if not base or base < 1 then
        return nil
    end
    return { blocks = blocks, base = base }
end

-- topology.conf of topology/block: nothing but BlockName lines and one BlockSizes. Case does not matter to Slurm in
-- keys, nor to counting hosts.
function M.parse_conf(text)
    text = text:lower():gsub("\\\r?\n", " ")
    local entries, base = {}, nil
    for line in text:gmatch("[^\r\n]+") do
        local name, nodes = line:match("^%s*blockname%s*=%s*(%S+)%s+nodes%s*=%s*(%S+)%s*$")
        if name then
            entries[#entries + 1] = { name = name, nodes = nodes }
        elseif line:find("^%s*[^#%s]") then
            local sizes = line:match("^%s*blocksizes%s*=%s*(%d+)[%d,]*%s*$")
            if base or not sizes then
                return nil
            end
            base = tonumber(sizes)
        end
    end
    return topology_from(entries, base)
end

local function plain(value)
    return value:match("^'([^'\"]*)'$") or value:match('^"([^\'"]*)"$') or value
end

-- topology.yaml as hpadmin writes it: one topology (of several only the partition tells which counts), of blocks, a line
-- for every member. YAML that is written otherwise is not judged.
function M.parse_yaml(text)
    local entries, base, topologies, inside = {}, nil, 0, ""
    for line in text:gmatch("[^\r\n]+") do
        local name = line:match("^%s+%- block:%s+(%S+)%s*$")
        local nodes = not name and line:match("^%s+nodes:%s+(%S+)%s*$")
        local size = not name and not nodes and line:match("^%s+%- (%d+)%s*$")
        if name then
            if inside ~= "blocks" then
                return nil
            end
            entries[#entries + 1] = { name = plain(name), nodes = false }
        elseif nodes then
            local entry = entries[#entries]
            if not entry or entry.nodes then
                return nil
            end
            entry.nodes = plain(nodes)
        elseif size then
            if inside ~= "block_sizes" then
                return nil
            end
            base = base or tonumber(size)
        elseif line:find("^%- topology:%s+%S+%s*$") then
            topologies = topologies + 1
        elseif line:find("^%s+block:%s*$") or line:find("^%s+blocks:%s*$") or line:find("^%s+block_sizes:%s*$") then
            inside = line:match("[%a_]+")
        elseif line:find("^%s+block_sizes:%s*%[[%d%s,]+%]%s*$") and not base then
            base = tonumber(line:match("%d+"))
        elseif line:find("^%s*[^#%s]") and not line:find("^%s+cluster_default:%s+%a+%s*$") and line ~= "---" then
            return nil
        end
    end
    if topologies ~= 1 then
        return nil
    end
    return topology_from(entries, base)
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

-- The block topology that the configuration in `folder` gives the whole cluster; nil when there is none, or when it is
-- not certain which file Slurm reads: releases before 25.05 ignore a topology.yaml.
function M.topology_of(folder, rules)
    local yaml, conf = read(folder .. "/topology.yaml"), read(folder .. "/topology.conf")
    if yaml and rules.spans then
        return M.parse_yaml(yaml)
    end
    local slurm = read(folder .. "/slurm.conf")
    if not slurm or not ("\n" .. slurm):find("\n%s*[Tt]opology[Pp]lugin%s*=%s*topology/block%s") then
        return nil
    end
    if yaml then
        return not conf and M.parse_yaml(yaml) or nil
    end
    return conf and M.parse_conf(conf)
end

-- What to tell the user of a request that can never start; nil for every other.
function M.refusal(request, folder, rules)
    if not request.nodes or not request.segment or request.segment < 1 then
        return nil
    end
    local topology = M.topology_of(folder, rules)
    local why = topology and M.problem(request, topology, rules)
    if not why then
        return nil
    end
    local others = M.alternatives(request, topology, rules)
    local advice = #others > 0 and "; this would work: " .. table.concat(others, " or ") or ""
    return string.format("this job could never start: %s%s", why, advice)
end

return M
