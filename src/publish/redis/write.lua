local what, epoch, step, indexed = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == 'vectors'
local function order(e, s)
  if e ~= epoch then return e - epoch end
  return s - step
end
local function version(row) return struct.unpack('<I8I8', row) end
local function drop(id)
  redis.call('HDEL', KEYS[2], id)
  if indexed then redis.call('VREM', KEYS[3], id) end
end
local held = redis.call('HMGET', KEYS[1], 'model_id', 'dim', 'epoch', 'step', 'begun_epoch', 'begun_step', 'layout')
if what == 'begin' then
  local full, model, dim, last_epoch, last_step = ARGV[5] == 'full', ARGV[6], ARGV[7], ARGV[8], ARGV[9]
  local differs = held[1] and (held[1] ~= model or held[2] ~= dim or held[7] ~= ARGV[4])
  if full and ARGV[10] == 'replace' and (differs or not held[1]) then
    redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
    held = {}
  end
  if not held[1] then
    if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
      return 'no: its keys hold what negstream has not written; choose another prefix, or delete them'
    end
  elseif held[1] ~= model then
    return 'no: it holds vectors of another model, ' .. held[1] .. ', not of ' .. model ..
      '; set replace = true, or choose another prefix (name)'
  elseif held[2] ~= dim then
    return 'no: it holds vectors of dimension ' .. held[2] .. ', not ' .. dim .. '; choose another prefix, or delete its keys'
  elseif held[7] ~= ARGV[4] then
    return 'no: it was written with the layout ' .. held[7] .. ', not ' .. ARGV[4] .. '; choose another prefix, or delete its keys'
  end
  if held[5] and order(tonumber(held[5]), tonumber(held[6])) > 0 or held[3] and order(tonumber(held[3]), tonumber(held[4])) >= 0 then
    return 'no: it holds a version that is not older: epoch ' .. (held[3] or held[5]) .. ', step ' .. (held[4] or held[6])
  end
  if not full and (not held[3] or held[3] ~= last_epoch or held[4] ~= last_step) then
    return 'no: it does not hold the update before this one any more; a full update makes it whole'
  end
  redis.call('HSET', KEYS[1], 'model_id', model, 'dim', dim, 'layout', ARGV[4], 'begun_epoch', ARGV[2], 'begun_step', ARGV[3])
  return 'ok'
end
if not held[5] then return 'no: its keys were deleted; a full update makes it whole' end
if held[5] ~= ARGV[2] or held[6] ~= ARGV[3] then
  return 'no: another worker has begun an update since, of epoch ' .. held[5]
end
if what == 'upsert' then
  for i = 7, #ARGV, 3 do
    local id, row, attributes = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local old = redis.call('HGET', KEYS[2], id)
    if not old or order(version(old)) <= 0 then
      redis.call('HSET', KEYS[2], id, row)
      if indexed then
        local embedding = string.sub(row, 21)
        if old and string.sub(old, 21) == embedding then
          redis.call('VSETATTR', KEYS[3], id, attributes)
        else
          redis.call('VADD', KEYS[3], 'FP32', embedding, id, 'NOQUANT', 'EF', ARGV[5], 'M', ARGV[6], 'SETATTR', attributes)
        end
      end
    end
  end
elseif what == 'popularity' then
  for i = 5, #ARGV, 3 do
    local id, bytes, text = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local old = redis.call('HGET', KEYS[2], id)
    if old and order(version(old)) <= 0 then
      redis.call('HSET', KEYS[2], id, string.sub(old, 1, 16) .. bytes .. string.sub(old, 21))
      local attributes = indexed and redis.call('VGETATTR', KEYS[3], id)
      if attributes then
        redis.call('VSETATTR', KEYS[3], id, (string.gsub(attributes, '"log_frequency":[^,}]*', '"log_frequency":' .. text, 1)))
      end
    end
  end
elseif what == 'remove' then
  for i = 5, #ARGV do
    local old = redis.call('HGET', KEYS[2], ARGV[i])
    if old and order(version(old)) <= 0 then drop(ARGV[i]) end
  end
elseif what == 'sweep' then
  local page = redis.call('HSCAN', KEYS[2], ARGV[5], 'COUNT', ARGV[6])
  for i = 1, #page[2], 2 do
    if order(version(page[2][i + 1])) < 0 then drop(page[2][i]) end
  end
  return page[1]
elseif what == 'commit' then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'step', ARGV[3])
end
return 'ok'
