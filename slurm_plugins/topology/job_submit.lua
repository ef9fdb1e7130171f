-- JobSubmitPlugins=lua: refuses jobs whose segments no block can ever hold, in slurmctld.
--
-- Belongs beside slurm.conf, with hpadmin_segments.lua. For Slurm 25.11 and later; before that job_submit is not told
-- of segments, and cli_filter.lua does the same in the user's command. Whatever goes wrong in here, the job goes
-- through.

local NO_VAL, NO_VAL16 = 4294967294, 65534
-- ESLURM_REQUESTED_TOPO_CONFIG_UNAVAILABLE: the submission fails with Slurm's own words for it.
local REFUSED = 2178

local segments

local function judge(job)
    local segment = job.segment_size
    if not segment or segment == 0 or segment >= NO_VAL16 then
        return nil
    end
    local folder = debug.getinfo(1, "S").source:gsub("^@", ""):gsub("/[^/]*$", "")
    segments = segments or dofile(folder .. "/hpadmin_segments.lua")
    local nodes = job.min_nodes
    local request = {
        nodes = nodes and nodes < NO_VAL and nodes or nil,
        segment = segment,
        nodelist = job.req_nodes ~= nil and job.req_nodes ~= "",
    }
    return segments.refusal(request, folder, { spans = true })
end

function slurm_job_submit(job, partitions, uid)
    local fine, refusal = pcall(judge, job)
    if not fine then
        slurm.log_debug("hpadmin: segments were not checked: %s", tostring(refusal))
    elseif refusal then
        slurm.log_user("hpadmin: %s", refusal)
        return REFUSED
    end
    return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
    return slurm.SUCCESS
end
