-- CliFilterPlugins=cli_filter/lua: refuses sbatch, salloc and srun whose segments no block can ever hold.
--
-- Belongs beside slurm.conf, with hpadmin_segments.lua. It runs in the user's own command, so it needs what a login
-- node has: slurm.conf and the topology file. Whatever goes wrong in here, the job goes through.

local function number(text)
    return tonumber(tostring(text or ""):match("^(%d+)"))
end

local segments

-- Beside this script; or where the nodes have it whose configuration comes from the controller, which sends no other
-- Lua than this.
local function load(folder)
    for _, place in ipairs({ folder, "/usr/share/hpadmin" }) do
        local path = place .. "/hpadmin_segments.lua"
        local file = io.open(path, "r")
        if file then
            file:close()
            return dofile(path)
        end
    end
    error("there is no hpadmin_segments.lua")
end

local function judge(options)
    local segment = number(options["segment"])
    if not segment or segment < 1 then
        return nil
    end
    local source = debug.getinfo(1, "S").source:gsub("^@", "")
    local folder = source:gsub("/[^/]*$", "")
    segments = segments or load(folder)
    local request = {
        nodes = number(options["nodes"]),
        segment = segment,
        nodelist = options["nodelist"] ~= nil and options["nodelist"] ~= "unset",
    }
    -- An option that this release knows is "set" or "unset"; one that it does not know is nil.
    return segments.refusal(request, folder, { spans = options["spread-segments"] ~= nil })
end

function slurm_cli_setup_defaults(options, early)
    return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, offset)
    local fine, refusal = pcall(judge, options)
    if not fine then
        slurm.log_debug("hpadmin: segments were not checked: %s", tostring(refusal))
    elseif refusal then
        slurm.log_error("hpadmin: %s", refusal)
        return slurm.ERROR
    end
    return slurm.SUCCESS
end

function slurm_cli_post_submit(offset, job_id, step_id)
    return slurm.SUCCESS
end
