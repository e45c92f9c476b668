"""The YAML configs of both jobs, validated."""

from imagewizard.config.loading import Section as Section
from imagewizard.config.loading import check as check
from imagewizard.config.loading import load as load
from imagewizard.config.loading import split_words as split_words
