-- What a run of a VM boots from, which a newer default does not change; why a workspace is failed or missing. The phase of
-- an operation said what state and desired state say.
ALTER TABLE vm DROP COLUMN phase;
ALTER TABLE vm ADD COLUMN kernel TEXT;
ALTER TABLE vm ADD COLUMN initrd TEXT;
ALTER TABLE workspace ADD COLUMN error_name TEXT;
ALTER TABLE workspace ADD COLUMN error_message TEXT CHECK ((error_name IS NULL) = (error_message IS NULL));
