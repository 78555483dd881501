"""What a run learned and forgot, from the files of its folder."""
